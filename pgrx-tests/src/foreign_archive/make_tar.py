"""Writes a tar of the members that standard input describes in JSON."""

import json
import sys
import tarfile


class Exact(tarfile.TarInfo):
    """tarfile adds a slash to the names of directories; WAL-G has none."""

    def get_info(self):
        info = super().get_info()
        info["name"] = self.name
        return info


FORMATS = {
    "pax": tarfile.PAX_FORMAT,
    "gnu": tarfile.GNU_FORMAT,
}


def main():
    request = json.load(sys.stdin)
    out = sys.stdout.buffer
    for member in request["members"]:
        info = Exact(member["name"])
        info.mode = member["mode"]
        # A float becomes a record of a PAX header.
        info.mtime = member["mtime"]
        content = b""
        if member["path"] is None:
            info.type = tarfile.DIRTYPE
        else:
            with open(member["path"], "rb") as file:
                content = file.read()
            info.size = len(content)
        out.write(info.tobuf(FORMATS[request["format"]], "utf-8", "surrogateescape"))
        out.write(content)
        out.write(bytes(-len(content) % tarfile.BLOCKSIZE))
    if request["trailer"]:
        out.write(bytes(2 * tarfile.BLOCKSIZE))


main()
