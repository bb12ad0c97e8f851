"""Figures and the report: what a study found, on one page that needs nothing else.

::

    figures              IsoFLOP profiles, and N*, D*, L* against C, as matplotlib figures, PNG or SVG
    diagnostics          residuals, forecasts rolled forward, the runs that hold the law
    style                how every figure looks
    page                 the report: what each table and sentence of it says
    template.html.j2     how it looks
"""
