# SPDX-License-Identifier: Apache-2.0
"""What the step that looks at the data can ask."""
