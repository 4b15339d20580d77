"""Drawing a compute graph: what repeats, what a box says, where it stands, how it is written as SVG."""
