"""The torch functions that have a form, one function each; all are called with what torch calls its parameters."""
