#!/usr/bin/env bash
# A real SLURM cluster (slurmctld, slurmdbd + MariaDB, munged, N x slurmd) on one machine, loopback only.
#   DIR=~/slurm-dev NODES=4 CPUS=8 GPUS=2 cluster.sh up|down|status|env|kill-node NODE|kill-controller|start-controller
# Needs root, Debian 12 or newer. After `up`:  eval "$(cluster.sh env)"   then sbatch, squeue, sacct and isoflop submit work.
# Knobs: ACCOUNTING=1|0 (slurmdbd with MariaDB, or none), MAX_ARRAY=10001, PORT=16800 (and some above it),
#   PREEMPT=REQUEUE|CANCEL, GRACE=15 (seconds).
set -euo pipefail
DIR=${DIR:-${TMPDIR:-/tmp}/slurm-dev} NODES=${NODES:-4} CPUS=${CPUS:-8} GPUS=${GPUS:-2} PORT=${PORT:-16800}
ACCOUNTING=${ACCOUNTING:-1} MAX_ARRAY=${MAX_ARRAY:-10001} PREEMPT=${PREEMPT:-REQUEUE} GRACE=${GRACE:-15}
ETC=$DIR/etc RUN=$DIR/run LOG=$DIR/log; export SLURM_CONF=$ETC/slurm.conf
PKGS="munge slurmctld slurmd slurm-client iproute2"
[ "$ACCOUNTING" = 0 ] || PKGS="$PKGS slurmdbd mariadb-server"
export PATH=$PATH:/usr/sbin
say() { echo "dev-slurm: $*" >&2; }
die() { say "$* (logs: $LOG)"; tail -qn 4 "$LOG"/{slurmdbd,slurmctld,slurmd-n1}.log >&2 2>/dev/null || true; exit 1; }
alive() { [ -s "$RUN/$1.pid" ] && [[ $(readlink "/proc/$(cat "$RUN/$1.pid")/exe") =~ /${1%%-*}(-wlm)?$ ]]; }   # zombies have no exe
wait_for() { local n=$1; shift; for _ in $(seq "$((n * 10))"); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done; return 1; }
gone() { ! alive "$1"; }
stop() { alive "$1" || return 0; kill "$(cat "$RUN/$1.pid")"; wait_for 15 gone "$1" || kill -9 "$(cat "$RUN/$1.pid")"; rm -f "$RUN/$1.pid"; }
nodes() { seq -f 'slurmd-n%g' "$NODES"; }
steps() { ss -xlpH 2>/dev/null | grep -F "$DIR/spool/${1:-}" | grep -F slurmstepd | grep -oP 'pid=\K[0-9]+' | sort -u || true; }
no_jobs() { [ -z "$(timeout 5 squeue -h)" ]; }
nodes_up() { [ "$(timeout 5 sinfo -hNp main -o %T | grep -cE '^(idle|mixed|allocated)$')" = "$NODES" ]; }

install() {
  dpkg -s $PKGS >/dev/null 2>&1 && return 0
  say "installing $PKGS"; mkdir -p "$DIR"
  local p=/usr/sbin/policy-rc.d mine=0 rc=0   # keep the packages from starting their own services
  [ -e $p ] || { mine=1; printf '#!/bin/sh\nexit 101\n' >$p; chmod 755 $p; }
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $PKGS; } \
    >"$DIR/apt.log" 2>&1 </dev/null || rc=$?
  [ $mine = 0 ] || rm -f $p
  [ $rc = 0 ] || { tail "$DIR/apt.log" >&2; die "apt-get failed"; }
}

config() {
  mkdir -p "$ETC" "$RUN" "$LOG" "$DIR/state" "$DIR/db"; chmod 755 "$DIR" "$RUN"
  [ -s "$ETC/munge.key" ] || (umask 077; head -c 128 /dev/urandom >"$ETC/munge.key")
  local h a; h=$(hostname -s)
  a=$(getent ahostsv4 "$(hostname)" | awk 'NR==1{print $1}')   # what the host name resolves to: where NoInAddrAny makes the daemons bind
  [ -n "$a" ] || die "the host name $(hostname) must resolve (add it to /etc/hosts, best as 127.0.0.1)"
  [[ $a == 127.* ]] || say "warning: $(hostname) resolves to $a, not to loopback; the daemons will listen on $a"
  cat >"$ETC/slurm.conf" <<C
ClusterName=dev
SlurmctldHost=$h($a)
SlurmUser=root
SlurmctldPort=$PORT
AuthType=auth/munge
AuthInfo=socket=$RUN/munge.sock,cred_expire=8
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd-%n.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=$PREEMPT
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
JobRequeue=1
ReturnToService=2
MpiDefault=none
MaxArraySize=$MAX_ARRAY
MaxJobCount=20000
KillWait=2
# keep cred_expire (requeue delay) > KillWait + 2 s, or a requeued job meets its old self and is held
InactiveLimit=0
SlurmdTimeout=10
SlurmctldTimeout=30
$(if [ "$ACCOUNTING" = 0 ]; then echo AccountingStorageType=accounting_storage/none; else echo "AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$a
AccountingStoragePort=$((PORT + 1))
AccountingStoragePass=$RUN/munge.sock
AccountingStorageEnforce=limits
AccountingStorageTRES=gres/gpu"; fi)
GresTypes=gpu
NodeName=DEFAULT CPUs=$CPUS Sockets=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=8000 Gres=gpu:$GPUS
$(for i in $(seq "$NODES"); do echo "NodeName=n$i NodeHostname=$h NodeAddr=$a Port=$((PORT + 10 + i))"; done)
PartitionName=DEFAULT Nodes=ALL State=UP MaxTime=INFINITE DefMemPerCPU=100
PartitionName=main Default=YES PriorityTier=1 GraceTime=$GRACE
PartitionName=high PriorityTier=10 PreemptMode=OFF
C
  local i; for i in $(seq 0 $((GPUS - 1))); do ln -sfn /dev/null "$DIR/gpu$i"; done   # fake GPUs: File= must be some device
  echo "Name=gpu File=$DIR/gpu[0-$((GPUS - 1))]" >"$ETC/gres.conf"
  (umask 077; cat >"$ETC/slurmdbd.conf" <<C
DbdHost=$h
DbdAddr=$a
CommunicationParameters=NoInAddrAny
DbdPort=$((PORT + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$RUN/munge.sock
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 2))
StorageUser=slurm
StoragePass=slurm
PidFile=$RUN/slurmdbd.pid
LogFile=$LOG/slurmdbd.log
C
  )
}

up() {
  [ "$(id -u)" = 0 ] || die "run me as root"
  install; config
  alive munged || munged --key-file="$ETC/munge.key" --socket="$RUN/munge.sock" --pid-file="$RUN/munged.pid" \
    --log-file="$LOG/munged.log" --seed-file="$DIR/munge.seed" || die "munged failed"
  [ "$ACCOUNTING" = 0 ] || accounting
  controller
  for n in $(nodes); do
    mkdir -p "$DIR/spool/${n#slurmd-}"
    alive "$n" || slurmd -N "${n#slurmd-}" </dev/null >>"$LOG/$n.log" 2>&1
  done
  wait_for 8 nodes_up || scontrol update NodeName=ALL State=RESUME 2>/dev/null || true
  wait_for 30 nodes_up || die "nodes did not register"
  say "up: $NODES nodes x $CPUS CPUs x $GPUS fake GPUs; export SLURM_CONF=$SLURM_CONF"
}

controller() { alive slurmctld || slurmctld </dev/null >>"$LOG/slurmctld.log" 2>&1; }

accounting() {
  if ! alive mariadbd; then
    [ -d "$DIR/db/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$DIR/db" --skip-test-db \
      --auth-root-authentication-method=normal >"$LOG/mariadb-install.log" 2>&1 || die "mariadb-install-db failed"
    setsid mariadbd --no-defaults --user=root --datadir="$DIR/db" --socket="$RUN/db.sock" --pid-file="$RUN/mariadbd.pid" \
      --bind-address=127.0.0.1 --port=$((PORT + 2)) --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=64M \
      --innodb-lock-wait-timeout=900 </dev/null >"$LOG/mariadbd.log" 2>&1 &
    wait_for 30 mariadb --no-defaults -S "$RUN/db.sock" -e "CREATE USER IF NOT EXISTS slurm@127.0.0.1 IDENTIFIED BY 'slurm';
      GRANT ALL ON slurm_acct_db.* TO slurm@127.0.0.1" || die "mariadb did not start"
  fi
  alive slurmdbd || slurmdbd </dev/null >>"$LOG/slurmdbd.log" 2>&1
  wait_for 3 timeout 10 sacctmgr -n list cluster || die "slurmdbd did not answer"
  [ -n "$(sacctmgr -nP list cluster dev)" ] || sacctmgr -iQ add cluster dev >/dev/null
}

down() {
  local n p
  if alive slurmctld; then scancel -f --state=PENDING 2>/dev/null || true; squeue -h -o %A | sort -u | xargs -r scancel -f 2>/dev/null || true; wait_for 10 no_jobs || true; fi
  for n in slurmctld $(nodes); do stop "$n"; done
  for p in $(steps); do kill -9 "$p" 2>/dev/null || true; done
  for n in slurmdbd mariadbd munged; do stop "$n"; done
  say "down"
}

status() {
  local n bad=0
  for n in munged $([ "$ACCOUNTING" = 0 ] || echo mariadbd slurmdbd) slurmctld $(nodes); do
    if alive "$n"; then say "$n pid $(cat "$RUN/$n.pid")"; else say "$n not running"; bad=1; fi
  done
  [ $bad = 1 ] || sinfo
  return $bad
}

tree() { local c; echo "$1"; for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do tree "$c"; done; }
kill_node() {   # like a power cut: slurmd and all that runs under it vanish
  local p; kill -9 "$(cat "$RUN/slurmd-$1.pid")"
  for p in $(steps "$1/"); do kill -9 $(tree "$p") 2>/dev/null || true; done
}

case ${1:-} in
  up | down | status) "$1" ;;
  kill-node) kill_node "$2" ;;
  kill-controller) kill -9 "$(cat "$RUN/slurmctld.pid")" ;;
  start-controller) controller ;;
  env) echo "export SLURM_CONF=$SLURM_CONF" ;;
  *) sed -n '2,7p' "$0"; exit 2 ;;
esac
