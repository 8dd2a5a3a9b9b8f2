"""A world in which one seed decides everything: several devices, people, a network that fails, and the real engine.

Nothing here waits, and no thread is started: time is a number, and every call is carried by hand.
"""
