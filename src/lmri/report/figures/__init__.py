"""Drawings of the report: SVG made by matplotlib, coloured by the page's style sheet."""
