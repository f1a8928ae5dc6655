"""What was measured as a page: one HTML file that opens offline, in light and dark, on any width, on paper.

page is the paper, picture and distributions draw, bench, doctor and counts put on it what they have found,
whole takes all three and lays them out.
"""
