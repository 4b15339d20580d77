"""Search methods: one interface, one file each (`aiop.search.methods.base`)."""
