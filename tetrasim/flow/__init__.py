"""From a request to results: find the model, configure the target, simulate its phases, build the `Result`.

`request` says what was asked, `loading` finds and imports the model, `run_phases` simulates, `result_tables`
and `simulate` build the `Result`, `cache` remembers it, and `session` does all of this for several targets.
"""
