"""Public benchmarks: one file each says where its data is from, how it is asked and graded."""
