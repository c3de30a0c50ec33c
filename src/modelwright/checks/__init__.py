"""What can be wrong with tables: pure functions from columns to findings, one idea a file. Audit `data` runs them and makes measurements of them."""
