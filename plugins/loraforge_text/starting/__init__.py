# SPDX-License-Identifier: Apache-2.0
"""How somebody begins with text: a first config, what the data say of it, examples, configs of LLaMA-Factory."""
