use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use serde_json::{Value, json};

use crate::hands::{FINE, Lent};

fn pack(lent: &mut Lent, path: &str, extra: Value) -> (Errno, Value) {
    let output = lent.place.path().join("transfer.tar");
    fs::write(&output, b"").unwrap();
    let mut request = json!({ "op": "pack", "path": path, "followLink": false, "name": "new", "outputPath": output });
    let request_fields = request.as_object_mut().unwrap();
    request_fields.extend(extra.as_object().unwrap().clone());
    let done = lent.call(request, b"");
    (done.errno, done.result)
}

fn unpack(lent: &mut Lent, extra: Value) -> (Errno, Value) {
    let input = lent.place.path().join("transfer.tar");
    let length = fs::metadata(&input).unwrap().len();
    let mut request =
        json!({ "op": "unpack", "inputPath": input, "length": length, "directory": "target", "name": "copy" });
    let request_fields = request.as_object_mut().unwrap();
    request_fields.extend(extra.as_object().unwrap().clone());
    let done = lent.call(request, b"");
    (done.errno, done.result)
}

fn plant(root: &Path) {
    fs::create_dir_all(root.join("source/below")).unwrap();
    fs::create_dir(root.join("target")).unwrap();
    fs::write(root.join("source/below/file"), b"content").unwrap();
    fs::set_permissions(root.join("source/below/file"), PermissionsExt::from_mode(0o4755)).unwrap();
    symlink("/etc/passwd", root.join("source/link")).unwrap();
    symlink("source", root.join("alias")).unwrap();
}

#[test]
fn copies_of_the_caller_go_out_and_come_back_under_another_name() {
    let mut lent = Lent::new();
    let root = lent.place.path().to_path_buf();
    plant(&root);
    let (errno, result) = pack(&mut lent, "source", json!({}));
    assert_eq!(errno, FINE);
    assert_eq!(result["bytes"], fs::metadata(root.join("transfer.tar")).unwrap().len());

    let (errno, result) = unpack(&mut lent, json!({}));
    assert_eq!((errno, &result["skippedDevices"]), (FINE, &json!(0)));
    let copied = root.join("target/copy");
    assert_eq!(fs::read(copied.join("below/file")).unwrap(), b"content");
    assert_eq!(fs::metadata(copied.join("below/file")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_link(copied.join("link")).unwrap(), Path::new("/etc/passwd"));

    let (errno, _) = unpack(&mut lent, json!({ "name": "kept", "archive": true }));
    assert_eq!(errno, FINE);
    let kept = root.join("target/kept/below/file");
    assert_eq!(fs::metadata(kept).unwrap().mode() & 0o7777, 0o4755);

    let (errno, _) = unpack(&mut lent, json!({ "name": "." }));
    assert_eq!(errno, FINE);
    assert!(root.join("target/below/file").exists());
    lent.end();
}

#[test]
fn a_link_is_packed_as_what_it_is_unless_asked() {
    let mut lent = Lent::new();
    let root = lent.place.path().to_path_buf();
    plant(&root);
    assert_eq!(pack(&mut lent, "alias", json!({})).0, FINE);
    assert_eq!(unpack(&mut lent, json!({})).0, FINE);
    assert_eq!(fs::read_link(root.join("target/copy")).unwrap(), Path::new("source"));
    assert_eq!(pack(&mut lent, "alias", json!({ "followLink": true })).0, FINE);
    let (errno, result) = unpack(&mut lent, json!({}));
    assert_eq!(errno, Errno::ENOTDIR, "{result}");
    assert_eq!(unpack(&mut lent, json!({ "name": "followed" })).0, FINE);
    assert!(root.join("target/followed/below").is_dir());
    lent.end();
}

#[test]
fn a_refused_copy_is_told_by_its_cause() {
    let mut lent = Lent::new();
    let root = lent.place.path().to_path_buf();
    plant(&root);
    assert_eq!(pack(&mut lent, "missing", json!({})), (Errno::ENOENT, json!({})));

    // The daemon's file is never reached through a link.
    symlink(root.join("source/below/file"), root.join("elsewhere")).unwrap();
    let (errno, _) = pack(&mut lent, "source", json!({ "outputPath": root.join("elsewhere") }));
    assert_eq!(errno, Errno::ELOOP);
    assert_eq!(fs::read(root.join("source/below/file")).unwrap(), b"content");

    assert_eq!(pack(&mut lent, "source", json!({})).0, FINE);
    symlink("/tmp", root.join("target/copy")).unwrap();
    let (errno, result) = unpack(&mut lent, json!({}));
    assert_eq!(errno, Errno::ENOTDIR);
    assert_eq!(
        result["message"],
        "archive from the container: entry \"new/\" at byte 0: a directory cannot replace what is not one"
    );
    let (errno, _) = unpack(&mut lent, json!({ "name": "../copy" }));
    assert_eq!(errno, Errno::EINVAL);
    let (errno, _) = unpack(&mut lent, json!({ "directory": "nowhere" }));
    assert_eq!(errno, Errno::ENOENT);

    let damaged = root.join("transfer.tar");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[0] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let (errno, result) = unpack(&mut lent, json!({ "name": "other" }));
    assert_eq!(errno, Errno::EBADMSG);
    assert!(result["message"].as_str().unwrap().contains("checksum"), "{result}");
    lent.end();
}
