"""Figures and the report: what a study found, on one page that needs nothing else.

::

    content              what a report is made of: points, law, recommendation, progress, the work of each run
    runs, tables         runs one by one; the tables, as plain strings
    sentences            the question, the answer, the verdict, how it was made
    panels               a plot as plain JSON: axes and layers
    profiles, findings   the plots: IsoFLOP profiles with switches; power laws, hold-out, influence
    ablation             the arms of a study with axes: tables and plots
    page                 all of it as HTML: template.html.j2, report.css, report.js, chart-*.min.js (Chart.js, MIT)
    markdown             all of it as Markdown

    figures              IsoFLOP profiles, and N*, D*, L* against C, as matplotlib figures, PNG or SVG
    diagnostics          residuals, forecasts rolled forward, the runs that hold the law
    style                how every figure looks
"""
