"""plates - what is copied: plates of images, and folders of small files."""
import os
import shutil

IMAGE_BYTES = 2560 * 1000
IMAGES = 800


def plate(rig, files=IMAGES, image_bytes=IMAGE_BYTES):
    """A folder of so many images with the gallery's names; made once, read once so that it is in memory."""
    wells = max(1, (files + 19) // 20)
    dest = rig.folder("source-%d-%d" % (files, image_bytes))
    if not os.listdir(dest):
        rig.run([os.path.join(rig.top, "tests", "tools", "make-plate"), "--images-only", "--wells", str(wells), "--sites",
                 "4", "--channels", "5", "--format", "1536", "--bytes", str(image_bytes), dest])
    for folder, _, names in os.walk(dest):
        if names:
            images = folder
    for name in sorted(n for n in os.listdir(images) if n.endswith(".tiff"))[files:]:
        os.unlink(os.path.join(images, name))
    warm(images)
    return images


def small_files(rig, count, file_bytes=4096):
    """A flat folder of files that all differ."""
    dest = rig.folder("small-%d-%d" % (count, file_bytes))
    if not os.listdir(dest):
        rig.run([rig.tool("bench_files"), "create", dest, str(count), str(file_bytes)])
    warm(dest)
    return dest


def warm(folder):
    for entry in os.scandir(folder):
        with open(entry.path, "rb", buffering=0) as content:
            while content.read(1 << 20):
                pass


def bytes_in(folder):
    return sum(entry.stat().st_size for entry in os.scandir(folder))


def remove(path):
    shutil.rmtree(path, ignore_errors=True)
