"""`experiments`: the paper's tables as one study, from a recipe to claims with verdicts.

recipe (what is compared) -> cells (what has to be trained, each once) -> freeze (what was fixed
before the test videos existed) -> run (here or on Ray) -> outcome (results.json) -> the page.
"""
