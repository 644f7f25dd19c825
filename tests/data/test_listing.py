"""What counts as a class folder and as a picture in it."""

import os
import socket

import pytest

from advfool.data import FolderModule, InputFormat
from advfool.data.listing import LEFT_BEHIND, class_folders, pictures_in
from advfool.utilities.errors import AdvfoolError
from tests.helpers.photos import make_photos

HIDDEN = [".ipynb_checkpoints", ".git", "._cat", "__MACOSX", "@eaDir", "$RECYCLE.BIN", ".Trash-1000", "__pycache__"]


def names(paths):
    return [path.name for path in paths]


def test_hidden_files_and_folders_are_left_out_at_every_depth(photo_folder):
    before = {path for split in ("train", "val") for path in pictures_in(photo_folder / split)}
    for place in (photo_folder, photo_folder / "train", photo_folder / "val", photo_folder / "train" / "cat"):
        for name in HIDDEN:
            make_photos(place / name, 1)
    for place in (photo_folder / "train" / "cat", photo_folder / "val" / "dog"):
        for name in ("._0.jpg", ".hidden.png", "Thumbs.db", ".DS_Store", "desktop.ini", "notes.txt"):
            (place / name).write_bytes(b"no picture")
    for split in ("train", "val"):
        assert names(class_folders(photo_folder / split)) == ["cat", "dog"]
    data = FolderModule(InputFormat(32, 40, (0.5,) * 3, (0.5,) * 3), str(photo_folder), workers=0)
    assert data.classes == ("cat", "dog")
    assert {path for items in data.items.values() for path, _ in items} == before
    assert all(name == name.lower() for name in LEFT_BEHIND)


def test_a_class_folder_with_hidden_files_only_holds_no_images(photo_folder):
    (photo_folder / "train" / "emu").mkdir()
    (photo_folder / "train" / "emu" / "._0.jpg").write_bytes(b"")
    with pytest.raises(AdvfoolError, match="emu' holds no images"):
        FolderModule(InputFormat(32, 40, (0.5,) * 3, (0.5,) * 3), str(photo_folder), workers=0)


def test_links_to_files_and_folders_are_followed(tmp_path):
    make_photos(tmp_path / "elsewhere" / "deep", 2)
    make_photos(tmp_path / "data" / "cat", 1)
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "cat" / "more").symlink_to("../../elsewhere/deep")
    (tmp_path / "data" / "cat" / "one.PNG").symlink_to("../../elsewhere/deep/0.jpg")
    assert names(class_folders(tmp_path / "data")) == ["cat", "dog"]
    assert names(pictures_in(tmp_path / "data" / "dog")) == ["0.jpg", "1.jpg"]
    assert names(pictures_in(tmp_path / "data" / "cat")) == ["0.jpg", "0.jpg", "1.jpg", "one.PNG"]
    make_photos(tmp_path / "data" / "cat" / "not a picture.png", 1)  # a folder, whatever its name
    assert len(pictures_in(tmp_path / "data" / "cat")) == 5


@pytest.mark.timeout(20)
def test_links_in_a_circle_neither_hang_nor_bring_other_classes(tmp_path):
    make_photos(tmp_path / "cat" / "deep", 2)
    make_photos(tmp_path / "dog", 1)
    for place in (tmp_path, tmp_path / "cat", tmp_path / "cat" / "deep"):
        for target in (".", "..", "/", str(tmp_path), str(tmp_path / "cat"), "itself"):
            (place / f"to {target.replace('/', '_')}").symlink_to(target)
        (place / "itself").symlink_to("itself")
    (tmp_path / "cat" / "again").symlink_to("deep")
    (tmp_path / "a link to cat").symlink_to("cat")
    assert names(class_folders(tmp_path))[:2] == ["a link to cat", "cat"]
    assert [path.relative_to(tmp_path / "cat").as_posix() for path in pictures_in(tmp_path / "cat")] == [
        "deep/0.jpg",
        "deep/1.jpg",
    ]
    assert names(pictures_in(tmp_path / "dog")) == ["0.jpg"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "broken link", "link to itself", "link to a pipe"])
@pytest.mark.timeout(20)
def test_what_is_named_like_a_picture_but_is_no_file_is_refused(photo_folder, kind):
    path = photo_folder / "train" / "cat" / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "link to a pipe":
        os.mkfifo(photo_folder / "pipe")
        path.symlink_to(photo_folder / "pipe")
    else:
        path.symlink_to({"device": "/dev/zero", "broken link": "nothing", "link to itself": path}[kind])
    with pytest.raises(AdvfoolError, match=f"'{path}' is named like a picture, but is a pipe"):
        FolderModule(InputFormat(32, 40, (0.5,) * 3, (0.5,) * 3), str(photo_folder), workers=0)


def test_a_pipe_that_is_not_named_like_a_picture_is_left_alone(photo_folder):
    os.mkfifo(photo_folder / "train" / "cat" / "pipe")
    assert len(pictures_in(photo_folder / "train" / "cat")) == 6


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_without_training_images_is_refused(photo_folder, split):
    if split == "test":
        make_photos(photo_folder / split / "cat", 2)
    make_photos(photo_folder / split / "emu", 2)
    options = {"input": InputFormat(32, 40, (0.5,) * 3, (0.5,) * 3), "root": str(photo_folder), "workers": 0}
    with pytest.raises(AdvfoolError, match=rf"^'{split}' \(data\.root\) has images of 1 classes .* none of: emu\."):
        FolderModule(**options)
    assert FolderModule(**options, class_map={"emu": "dog"}).classes == ("cat", "dog")
