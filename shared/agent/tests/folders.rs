//! Folders: a file for each record that lies in one, under a name that stays, and gone only when a whole answer says so.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use std::fs;
use std::time::Duration;

use keeper_agent::status::Status;
use keeper_agent::{Node, Pod, Reason};
use keeper_contract::FolderRef;
use keeper_sim::{Change, Edit, Fault, FaultKind, RecordQuirk};
use support::{Bench, failures, names, refresh, until};

const VAULT: &str = "
folders:
- name: Prod
  uid: FFFFFFFFFFFFFFFFFFFFFF
  records:
  - {title: top, password: t}
  folders:
  - name: Databases
    uid: SSSSSSSSSSSSSSSSSSSSSS
    records:
    - {title: MySQL prod, uid: MMMMMMMMMMMMMMMMMMMMMM, password: m}
    - {title: Redis, uid: RRRRRRRRRRRRRRRRRRRRRR, password: r}
    folders:
    - name: Old
      records:
      - {title: attic, password: a}
- name: Shared
  records: []
records:
- {title: Loose, password: l}
";
const MYSQL: &str = "MMMMMMMMMMMMMMMMMMMMMM";
const REDIS: &str = "RRRRRRRRRRRRRRRRRRRRRR";

async fn bench(folder: &str, path: &str) -> Bench {
    let mut bench = Bench::new(VAULT, &[]).await;
    bench.folder(folder, path);
    bench
}

fn add(bench: &Bench, title: &str, uid: &str, folder: Option<&str>) {
    let add = Edit::Add {
        title: title.into(),
        kind: None,
        uid: Some(uid.into()),
        folder: folder.map(str::to_owned),
        changes: vec![Change::text("password", "new")],
    };
    bench.sim.edit(&add).unwrap();
}

fn move_to(bench: &Bench, record: &str, folder: Option<&str>) {
    let (record, folder) = (record.into(), folder.map(str::to_owned));
    bench.sim.edit(&Edit::Move { record, folder }).unwrap();
}

fn remove(bench: &Bench, record: &str) {
    let record = record.into();
    bench.sim.edit(&Edit::Remove { record }).unwrap();
}

fn folder_calls(bench: &Bench) -> u64 {
    bench.sim.calls().to("get_folders")
}

#[tokio::test]
async fn records_that_lie_in_the_folder_itself_become_files() {
    for (folder, path, want) in [
        ("Prod/Databases", "", vec!["MySQL-prod.json", "Redis.json"]),
        (
            "Prod/Databases",
            "db",
            vec!["MySQL-prod.json", "Redis.json"],
        ),
        (
            "SSSSSSSSSSSSSSSSSSSSSS",
            "a/b",
            vec!["MySQL-prod.json", "Redis.json"],
        ),
        ("Prod", "", vec!["top.json"]),
        ("FFFFFFFFFFFFFFFFFFFFFF", "", vec!["top.json"]),
        ("Prod/Databases/Old", "", vec!["attic.json"]),
        ("Shared", "", vec![]),
    ] {
        let bench = bench(folder, path).await;
        let mut agent = bench.agent();
        let first = refresh(&mut agent).await;
        assert_eq!(
            (failures(&first), first.changed),
            (vec![], want.len()),
            "{folder}"
        );
        let dir = bench.dir().join(path);
        if !want.is_empty() {
            assert_eq!(names(&dir), want, "{folder}");
        }
        assert_eq!(refresh(&mut agent).await.changed, 0);
        assert!(folder_calls(&bench) <= 1, "{folder}");
        assert_eq!(bench.calls(), 2);
    }
    let bench = bench("Prod/Databases", "db").await;
    refresh(&mut bench.agent()).await;
    assert_eq!(
        bench.read("db/MySQL-prod.json").unwrap(),
        "{\n  \"password\": \"m\"\n}"
    );
}

#[tokio::test]
async fn records_come_change_are_renamed_and_go() {
    for path in ["", "db"] {
        let bench = bench("Prod/Databases", path).await;
        let dir = bench.dir().join(path);
        let mut agent = bench.agent();
        refresh(&mut agent).await;
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();

        add(
            &bench,
            "Orders",
            "OOOOOOOOOOOOOOOOOOOOOO",
            Some("Prod/Databases"),
        );
        bench.sim.set(REDIS, "password", "r2").unwrap();
        assert_eq!(refresh(&mut agent).await.changed, 2);
        assert_eq!(
            names(&dir),
            ["MySQL-prod.json", "Orders.json", "Redis.json"]
        );
        assert!(read("Redis.json").contains("r2"));

        // A published name stays with its record; who takes its title gets another.
        bench.sim.set(REDIS, "title", "Valkey").unwrap();
        add(
            &bench,
            "Redis",
            "XXXXXXXXXXXXXXXXXXXXXX",
            Some("Prod/Databases"),
        );
        assert_eq!(refresh(&mut agent).await.changed, 1);
        let want = [
            "MySQL-prod.json",
            "Orders.json",
            "Redis-XXXXXXXX.json",
            "Redis.json",
        ];
        assert_eq!(names(&dir), want);
        assert!(read("Redis.json").contains("r2"));

        // Moved below, moved out, deleted.
        move_to(&bench, MYSQL, Some("Prod/Databases/Old"));
        move_to(&bench, "OOOOOOOOOOOOOOOOOOOOOO", None);
        remove(&bench, "XXXXXXXXXXXXXXXXXXXXXX");
        let gone = refresh(&mut agent).await;
        assert_eq!((failures(&gone), gone.changed), (vec![], 3));
        assert_eq!(names(&dir), ["Redis.json"]);
        assert_eq!(refresh(&mut agent).await.changed, 0);

        // Made anew, it has its old name; nothing of the old record is left.
        remove(&bench, REDIS);
        add(
            &bench,
            "Redis",
            "YYYYYYYYYYYYYYYYYYYYYY",
            Some("Prod/Databases"),
        );
        assert_eq!(refresh(&mut agent).await.changed, 1);
        assert_eq!(names(&dir), ["Redis.json"]);
        assert!(read("Redis.json").contains("new"));

        // The last one goes, when the tree says that the folder is still there.
        let calls = folder_calls(&bench);
        remove(&bench, "YYYYYYYYYYYYYYYYYYYYYY");
        assert_eq!(refresh(&mut agent).await.changed, 1);
        assert_eq!(folder_calls(&bench), calls + 1);
        let left = names(&bench.dir());
        assert_eq!(left, [""; 0], "no link leads nowhere");
    }
}

#[tokio::test]
async fn two_of_one_title_and_one_that_has_no_name() {
    let mut bench = Bench::new(
        "
folders:
- name: F
  records:
  - {title: Twin, uid: AAAAAAAAAAAAAAAAAAAAAA, password: a}
  - {title: T/win, uid: BBBBBBBBBBBBBBBBBBBBBB, password: b}
  - {title: '!?', uid: CCCCCCCCCCCCCCCCCCCCCC, password: c}
",
        &[],
    )
    .await;
    bench.folder("F", "");
    refresh(&mut bench.agent()).await;
    assert_eq!(
        names(&bench.dir()),
        [
            "CCCCCCCCCCCCCCCCCCCCCC.json",
            "Twin-AAAAAAAA.json",
            "Twin-BBBBBBBB.json"
        ]
    );
    // Another process keeps to these names, also when the reason for them is gone.
    let minute = Duration::from_secs(60);
    bench.runner().first_fetch(minute).await.unwrap();
    remove(&bench, "AAAAAAAAAAAAAAAAAAAAAA");
    let mut sidecar = bench.runner();
    tokio::select! {
        ended = sidecar.run(|_| {}) => panic!("{ended:?}"),
        () = until("the record to go", || names(&bench.dir()).len() == 2) => {}
    }
    assert_eq!(
        names(&bench.dir()),
        ["CCCCCCCCCCCCCCCCCCCCCC.json", "Twin-BBBBBBBB.json"]
    );
}

#[tokio::test]
async fn an_output_of_its_own_and_a_mount_go_before_a_folders_file() {
    let mut bench = Bench::new(VAULT, &["Loose[password] -> db/Redis.json"]).await;
    bench.config.directories[0].mount_points = vec!["db/MySQL-prod.json".into()];
    bench.folder("Prod/Databases", "db");
    bench.folder("Prod", "db");
    let mut agent = bench.agent();
    assert_eq!(failures(&refresh(&mut agent).await), [""; 0]);
    assert_eq!(bench.read("db/Redis.json").unwrap(), "l");
    assert_eq!(
        names(&bench.dir().join("db")),
        ["MySQL-prod.json", "Redis.json", "top.json"]
    );
    assert!(bench.dir().join("db/MySQL-prod.json").is_dir());
    remove(&bench, REDIS);
    remove(&bench, MYSQL);
    assert_eq!(failures(&refresh(&mut agent).await), [""; 0]);
    assert_eq!(bench.read("db/Redis.json").unwrap(), "l");
    assert!(agent.is_published());
}

#[tokio::test]
async fn whatever_is_wrong_with_an_answer_no_file_goes() {
    let bench = bench("Prod/Databases", "").await;
    let mut agent = bench.agent();
    refresh(&mut agent).await;
    let all = names(&bench.dir());
    // A record of it that can't be read keeps its file, and says so.
    bench
        .sim
        .set_quirk(REDIS, RecordQuirk::CorruptData, true)
        .unwrap();
    move_to(&bench, MYSQL, None);
    let failed = refresh(&mut agent).await;
    assert_eq!(
        failures(&failed),
        [format!(
            "keeper.security/folder: the record {REDIS} cannot be read: its data does not decrypt"
        )]
    );
    assert_eq!(
        names(&bench.dir()),
        all,
        "the answer is not whole, so nothing has left"
    );
    bench
        .sim
        .set_quirk(REDIS, RecordQuirk::CorruptData, false)
        .unwrap();
    // One that lies elsewhere makes the answer no less partial.
    bench
        .sim
        .set_quirk("Loose", RecordQuirk::CorruptData, true)
        .unwrap();
    assert_eq!(failures(&refresh(&mut agent).await), [""; 0]);
    assert_eq!(names(&bench.dir()), all);
    bench
        .sim
        .set_quirk("Loose", RecordQuirk::CorruptData, false)
        .unwrap();
    // Answers that are whole, and wrong: the folder is not in them.
    for text in ["{}", "{\"folders\": [], \"records\": null}"] {
        let kind = FaultKind::Plaintext { text: text.into() };
        bench.sim.fault(Fault::new(kind.clone()).on("get_secret"));
        bench.sim.fault(Fault::new(kind).on("get_folders"));
        let failed = refresh(&mut agent).await;
        assert_eq!(failed.failures[0].reason(), Reason::NotFound, "{text}");
        assert_eq!(names(&bench.dir()), all, "{text}");
        bench.sim.clear_faults();
    }
    // The tree can't be had.
    remove(&bench, REDIS);
    bench
        .sim
        .fault(Fault::new(FaultKind::BadGateway).on("get_folders"));
    let failed = refresh(&mut agent).await;
    assert_eq!(failed.failures[0].reason(), Reason::Unreachable);
    assert_eq!(names(&bench.dir()), all);
    bench.sim.clear_faults();
    assert_eq!(refresh(&mut agent).await.changed, 2);
    assert_eq!(names(&bench.dir()), [""; 0]);
}

#[tokio::test]
async fn a_folder_is_followed_and_one_that_is_gone_keeps_its_files() {
    let bench = bench("Prod/Databases", "").await;
    let mut agent = bench.agent();
    refresh(&mut agent).await;
    let all = names(&bench.dir());
    let rename = |folder: &str, name: &str| {
        let (folder, name) = (folder.into(), name.into());
        bench
            .sim
            .edit(&Edit::RenameFolder { folder, name })
            .unwrap();
    };
    rename("SSSSSSSSSSSSSSSSSSSSSS", "DBs");
    bench.sim.set(REDIS, "password", "r2").unwrap();
    let followed = refresh(&mut agent).await;
    assert_eq!((failures(&followed), followed.changed), (vec![], 1));
    // A pod that starts now doesn't find it.
    let failed = refresh(&mut bench.agent()).await;
    assert_eq!(
        failures(&failed),
        [
            "keeper.security/folder: no folder `Prod/Databases` is shared with this application; the nearest paths are `Prod/DBs`, `Prod`, `Prod/DBs/Old`"
        ]
    );
    assert_eq!(failed.failures[0].reason(), Reason::NotFound);
    assert_eq!(names(&bench.dir()), all);
}

#[tokio::test]
async fn a_folder_that_was_deleted_keeps_its_files_until_there_is_one_of_its_path() {
    let bench = bench("Prod/Databases", "").await;
    let mut agent = bench.agent();
    refresh(&mut agent).await;
    let all = names(&bench.dir());
    let folder = "Prod/Databases".to_owned();
    bench.sim.edit(&Edit::RemoveFolder { folder }).unwrap();
    for _ in 0..2 {
        let failed = refresh(&mut agent).await;
        assert_eq!(
            failures(&failed),
            [
                "keeper.security/folder: no folder `Prod/Databases` is shared with this application; the nearest paths are `Prod`"
            ]
        );
        assert_eq!(names(&bench.dir()), all);
    }
    let path = "Prod/Databases".into();
    bench.sim.edit(&Edit::MakeFolder { path }).unwrap();
    add(
        &bench,
        "Redis",
        "NNNNNNNNNNNNNNNNNNNNNN",
        Some("Prod/Databases"),
    );
    let again = refresh(&mut agent).await;
    assert_eq!(failures(&again), [""; 0]);
    assert_eq!(names(&bench.dir()), ["Redis.json"]);
    assert!(bench.read("Redis.json").unwrap().contains("new"));
}

#[tokio::test]
async fn folders_that_are_not_there() {
    for (folder, says) in [
        (
            FolderRef::Path("Prod/Databases/mysql".parse().unwrap()),
            "no folder `Prod/Databases/mysql` is shared",
        ),
        (
            FolderRef::Path("prod".parse().unwrap()),
            "the nearest paths are `Prod`",
        ),
        (
            FolderRef::Uid("ZZZZZZZZZZZZZZZZZZZZZZ".into()),
            "no folder `ZZZZZZZZZZZZZZZZZZZZZZ`",
        ),
        (FolderRef::Uid("not one".into()), "no folder `not one`"),
    ] {
        let mut bench = Bench::new(VAULT, &["Loose -> loose.json"]).await;
        bench.folder("x", "db");
        bench.config.folders[0].folder = folder;
        let failed = refresh(&mut bench.agent()).await;
        let text = failures(&failed).join("; ");
        assert!(text.contains(says), "{text}");
        assert!(bench.read("loose.json").is_some(), "the rest is published");
    }
    // Nor does an application start without it.
    let bench = bench("Nowhere", "").await;
    let ended = bench.runner().first_fetch(Duration::from_secs(60)).await;
    assert!(
        ended
            .unwrap_err()
            .to_string()
            .contains("no folder `Nowhere`")
    );
}

#[tokio::test]
async fn status_lists_the_files_of_a_folder() {
    let bench = bench("Prod/Databases", "db").await;
    bench
        .runner()
        .first_fetch(Duration::from_secs(60))
        .await
        .unwrap();
    let pod = Pod {
        name: "pod".into(),
        namespace: "default".into(),
        uid: "u".into(),
    };
    let status = Status::read(&bench.config, &pod, &bench.volume(), &Node).unwrap();
    let files: Vec<_> = status
        .outputs
        .iter()
        .map(|o| {
            (
                o.path.as_str(),
                o.record_uid.as_deref(),
                o.published_age_seconds.is_some(),
            )
        })
        .collect();
    let path = "/keeper/secrets/db/";
    assert_eq!(
        files,
        [
            (format!("{path}MySQL-prod.json").as_str(), Some(MYSQL), true),
            (format!("{path}Redis.json").as_str(), Some(REDIS), true)
        ]
    );
}
