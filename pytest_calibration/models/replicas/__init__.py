"""Replicas of a model on a Ray cluster: each answers a part of every call.

``batching``
    which questions go to a replica together.
``replica``
    one replica, in a process of its own.
``cluster``
    Ray: the cluster, what a replica gets of it, and the pool of replicas.
``replicated``
    the replicas as one loaded model.
"""
