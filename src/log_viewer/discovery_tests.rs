use std::fs::{create_dir_all, remove_dir_all, write};

use serde_json::json;

use super::*;

/// Folder of containers, deleted on drop.
struct Containers(PathBuf);

impl Containers {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("monlight-discovery-{name}-{}", std::process::id()));
        create_dir_all(folder.join("containers")).unwrap();
        Self(folder)
    }

    fn folder_of(&self, id: &str) -> PathBuf {
        self.0.join("containers").join(id)
    }

    fn scan(&self) -> SourceSnapshot {
        let folders = vec![self.0.join("containers")];
        Discovery::default().scan(&SourceSettings { folders, ..SourceSettings::default() })
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.0);
    }
}

fn id_of(number: usize) -> String {
    format!("{number:012}{}", "0123456789abc".repeat(4))
}

fn config(id: &str, name: &str) -> String {
    json!({ "ID": id, "Name": format!("/{name}"), "LogPath": format!("/var/lib/docker/{id}-json.log") }).to_string()
}

#[test]
fn a_damaged_configuration_hides_no_container() {
    let containers = Containers::new("damaged");
    let id = id_of(1);
    create_dir_all(containers.folder_of(&id)).unwrap();
    let (path, log) = (containers.folder_of(&id).join("config.v2.json"), format!("{id}-json.log"));
    let whole = config(&id, "web");
    write(&path, &whole[..20]).unwrap();
    write(containers.folder_of(&id).join(&log), "").unwrap();
    assert!(containers.scan().sources.is_empty(), "Docker may be writing it");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::now() - CONFIG_WRITE_TIME_MAX).unwrap();
    let snapshot = containers.scan();
    assert_eq!((snapshot.sources[0].name.as_str(), snapshot.sources[0].is_named), (&id[..SHORT_ID_CHARS], false));
    assert_eq!(snapshot.sources[0].path, Ok(containers.folder_of(&id).join(log)));
    assert!(snapshot.problems[0].message.ends_with("is damaged: the container's name and labels are unknown"));
}

#[test]
fn a_name_with_the_containers_own_id_is_that_of_its_service() {
    let containers = Containers::new("renamed");
    let short = &id_of(1)[..SHORT_ID_CHARS];
    for (name, expected) in [
        (format!("{short}_shop_api_1"), "shop_api_1".to_owned()),
        (format!("{}_shop_api_1", &id_of(2)[..SHORT_ID_CHARS]), format!("{}_shop_api_1", &id_of(2)[..SHORT_ID_CHARS])),
        (format!("{short}_"), format!("{short}_")),
    ] {
        create_dir_all(containers.folder_of(&id_of(1))).unwrap();
        write(containers.folder_of(&id_of(1)).join("config.v2.json"), config(&id_of(1), &name)).unwrap();
        assert_eq!(containers.scan().sources[0].name, expected, "{name}");
    }
}
