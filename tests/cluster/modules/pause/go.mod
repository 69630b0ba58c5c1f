module raetasks.test/pause

go 1.26
