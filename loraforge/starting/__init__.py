# SPDX-License-Identifier: Apache-2.0
"""How a user begins: a first config, with an example, from what data show, or from a config of another program."""
