"""Networks: the zoo and the importers."""
