"""The test kit for an app's own migrations, and the crash-simulating disk that this project tests itself with."""
