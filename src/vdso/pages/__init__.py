"""Records that one process publishes and any number read: schema, publisher, reader, directory, library."""
