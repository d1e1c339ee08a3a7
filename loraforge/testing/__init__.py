"""For the tests of plugins: contract checks that a plugin author calls."""

from .checks import check_component, check_exporter, check_loader, check_plugin, check_template

__all__ = ["check_component", "check_exporter", "check_loader", "check_plugin", "check_template"]
