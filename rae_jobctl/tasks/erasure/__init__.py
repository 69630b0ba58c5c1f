"""The task `erase-user`: all of one person's data of one tenant, everywhere it is kept (GDPR, Article 17)."""
