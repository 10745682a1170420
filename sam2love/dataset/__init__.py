"""A data set in the layout of Ref-AVS: its files, its index, and what is wrong with them."""
