"""The dashboard's page, and what is imported when it is first needed."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

hiddenimports = collect_submodules("mlxserve", on_error="raise")
datas = collect_data_files("mlxserve", includes=["dashboard/**/*"])
