"""The operator under random schedules, in virtual time. `make simulate` runs it; DESIGN.md, section 14, says why.

    schedule   a seed becomes a list of steps: users, clients, crashes, freezes, broken connections
    world      carries the steps out, and at the end demands that everything asked for has come true
    promises   sees every change in the API server and in the cluster, and judges each
    replica    one process: the product's index, actors, worker, election, stores and endpoint, wired as in wiring.py

    clock      virtual time, and an event loop for each process that can crash and freeze
    network    what becomes of a request on its way
    api_server, kube           a simulated API server, and what a replica has of it
    search_cluster, store      a simulated OpenSearch, and what a replica has of it
    source     the rows to roll up, and so what each document must say

    runner     runs one schedule, or tells its story
    mutations  takes the product's guards out, one at a time, to show that the promises notice

Nothing here may depend on the wall clock, on the order of a set, or on random numbers other than the schedule's: a seed
must tell the same story whenever it is told.
"""
