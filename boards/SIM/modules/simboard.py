# no modules yet
