# SPDX-License-Identifier: GPL-2.0
# The protocol, checked by Spin; no base is needed.
.PHONY: model
model:		## the rules of copy-on-write and pins as a model, each step of each interleaving; and mistakes that it has to find
	@tools/model/check
