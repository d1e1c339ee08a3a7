# SPDX-License-Identifier: Apache-2.0
"""How somebody begins with pictures: a first config, what the folder says of it, examples, configs of sd-scripts and lora-scripts."""
