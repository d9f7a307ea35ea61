"""Django's admin, for the operator of the platform: accounts, a look at the data, the health of its parts."""
