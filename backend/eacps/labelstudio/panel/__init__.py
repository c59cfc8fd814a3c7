"""The live panel: a page in every task, on which people compare candidates and steer the search."""
