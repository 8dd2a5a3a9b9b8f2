"""A user's rows in Google's Firestore: the cloud's rules run on the device, and one commit holds all of a push.

Nothing here is imported until an app gives its engine a FirestoreBackend.
"""
