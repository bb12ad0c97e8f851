"""What is known before a study is planned: its data, from the corpus or its recipe, and the prior that it names."""

from __future__ import annotations

from isoflop import store
from isoflop.errors import InputError
from isoflop.planning import prior
from isoflop.planning.ledger import DataFacts, SourceFacts
from isoflop.planning.prior import Prior
from isoflop.store import StudyDirectory
from isoflop.study import Study
from isoflop.study_data import Abstract, External


def data_facts(study: Study, directory: StudyDirectory | None = None) -> DataFacts:
    """What is known of the study's data: from its corpus where that stands, else from its recipe.

    Raises
    ------
    InputError
        If the study names a corpus that is not there.
    """
    from isoflop.tokens import embedded
    from isoflop.tokens.facts import facts
    from isoflop.tokens.shards import Corpus

    if study.data.abstract is not None:
        return _abstract_facts(study.data.abstract, study.data.text_share)
    if study.data.external is not None:
        return _external_facts(study.data.external)
    length = study.model.sequence_length
    if study.data.corpus is not None:
        corpus = Corpus.open(study.data.corpus)
        asked = study.data
        return facts(corpus, corpus.digest, length, asked.weights, asked.text_share, asked.held_out or "mixture")
    if directory is not None and Corpus.stands(directory.corpus):
        corpus = Corpus.open(directory.corpus)
        return facts(corpus, corpus.fingerprint, length)
    return DataFacts(embedded.fingerprint(), embedded.VOCABULARY, unique_tokens=None)


def _external_facts(data: External) -> DataFacts:
    """What is known of data that the study's own trainer brings."""
    return DataFacts(f"external-{data.name}", data.vocabulary, data.samples)


def _abstract_facts(data: Abstract, text_share: float | None) -> DataFacts:
    """What a study file tells of data that are not there; a source's tokens are part of what the data are."""
    from isoflop.tokens.mixture import shared

    if not data.sources:
        return DataFacts(f"abstract-{data.vocabulary}-{data.unique_tokens}", data.vocabulary, data.unique_tokens)
    shares = {name: source.share for name, source in data.sources.items()}
    if text_share is not None:
        text = {name for name, source in data.sources.items() if source.tokens_per_second is None}
        shares = shared(shares, text, text_share)
    sources = tuple(
        SourceFacts(
            name=name,
            unique_tokens=data.sources[name].unique_tokens,
            share=share,
            tokens_per_second=data.sources[name].tokens_per_second or 0.0,
            audio_share=data.sources[name].audio_share,
            orders=data.sources[name].orders,
        )
        for name, share in shares.items()
    )
    named = "-".join(f"{source.name}:{source.unique_tokens}x{source.share:g}" for source in sources)
    total = sum(source.unique_tokens for source in sources)
    return DataFacts(f"abstract-{data.vocabulary}-{named}", data.vocabulary, total, sources)


def prior_of(study: Study) -> Prior | None:
    """The prior that the study names, its law read where it is a file; None where it names none.

    Raises
    ------
    InputError
        If there is no such law.
    CorruptFileError
        If the file is not a law.
    """
    choice = study.grid.prior
    if choice is None or choice.law is None:
        return prior.chosen(choice)
    if not choice.law.is_file():
        said = "is no file" if choice.law.exists() else "does not exist"
        raise InputError(f"grid.prior.law must be the law.json of a study, but {choice.law} {said}")
    return prior.chosen(choice, store.read_law(choice.law))
