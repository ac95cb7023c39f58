//! What a person is shown.

use super::*;
use crate::{Detail, inspect};

fn shown(fs: &SimFs, detail: Detail) -> String {
    let mut text = String::new();
    inspect(fs, detail, &mut text).unwrap();
    text
}

#[test]
fn report_names_everything_and_changes_nothing() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[no_op(1, 1), batch(2, 1, 100)]);
    vote(&opened.store, &mut log, 3, 9, 2);
    checkpoint(&opened.store, &mut [&mut log], 2);
    append_synced(&opened.store, &mut log, &[batch(3, 3, 100)]);
    assert!(matches!(
        inspect(&fs, Detail::Summary, &mut String::new()),
        Err(Error::Locked { .. })
    ));
    drop((opened, log));
    let files = fs.files();
    let text = shown(&fs, Detail::Everything);
    for line in [
        "  cluster none yet, broker none yet",
        "  log 7 in topics/t/7: segments up to 65536 bytes",
        "    term 3, vote 9, commit 2; applied 2 of term 1",
        "    log 7: segment 1 opened at index 1, offset 0, 16384 bytes",
        "topics/t/7/0000000001.segment: log 7, segment 1, from index 1, offset 0",
        "  index 3, term 3, Batch, offset 2, 2 records, 100 bytes at 4312",
        "  3 frames in 376 bytes, up to offset 4",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line:?} is not in\n{text}"
        );
    }
    assert!(shown(&fs, Detail::Summary).lines().count() < text.lines().count());
    assert_eq!(fs.files(), files);
}

#[test]
fn damaged_files_are_shown_as_such() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[batch(1, 1, 100)]);
    drop((opened, log));
    for path in fs.files().keys() {
        fs.corrupt(path, |bytes| {
            bytes.iter_mut().for_each(|byte| *byte ^= 0x55)
        });
    }
    let text = shown(&fs, Detail::Everything);
    assert!(
        text.contains("identity is damaged") && text.contains("no header of a segment"),
        "{text}"
    );
    assert!(
        text.contains("checkpoint 2: checkpoint/000000000002.checkpoint is damaged"),
        "{text}"
    );
}
