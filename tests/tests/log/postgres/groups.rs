//! Appends of many users in one statement, each with a verdict of its own. And TLS.

use lockstep::log::postgres::Settings;
use lockstep::log::{Log, LogError, PostgresLog};
use lockstep::testing::log::{content, own, written};
use lockstep_model::run::Kind;
use lockstep_model::{Offset, UserId};
use lockstep_tests::postgres::Server;

use super::{connect, database};

/// A group of appends: some are taken, some fenced, some broken, and one cannot be stored.
#[tokio::test]
async fn each_append_of_a_group_has_its_own_verdict() {
    let server = Server::shared();
    let settings = database(server).await;
    let log = connect(&settings).await;
    let mut users = Vec::new();
    for number in 0..40 {
        let user = log.user(&format!("user {number}")).await.expect("a number");
        users.push((user, own(&log, user).await));
    }
    let name = settings.url.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("a name");
    let unlucky = users[7].0.0;
    server.sql(
        name,
        &format!(
            "create function public.refuse() returns trigger language plpgsql as
                 $$ begin if new.user_id = {unlucky} then raise exception 'not this one'; end if; return new; end $$;
             create trigger refuse before insert on lockstep.entry for each row execute function public.refuse();"
        ),
    );
    let entry = |number: usize| written(number as u64, Kind::Notice, &format!("of {number}"));
    let appends = users.iter().enumerate().map(|(number, (user, tenure))| {
        let (mut tenure, mut after, mut user) = (*tenure, Offset(0), *user);
        match number % 10 {
            1 => tenure.token.0 += 1,
            2 => after = Offset(5),
            3 => user = UserId(1 << 50),
            _ => {}
        }
        log.append(user, tenure, after, vec![entry(number)])
    });
    let answers = futures_util::future::join_all(appends.collect::<Vec<_>>()).await;
    for (number, answer) in answers.into_iter().enumerate() {
        let (user, tenure) = users[number];
        let held = log.restore(user, tenure).await.expect("held").entries;
        match number % 10 {
            1 | 3 => assert_eq!(answer, Err(LogError::Fenced)),
            2 => assert!(matches!(answer, Err(LogError::Broken(_))), "{answer:?}"),
            7 if number == 7 => {
                let Err(LogError::Unavailable(why)) = answer else { panic!("{answer:?}") };
                assert!(why.contains("not this one"), "{why}");
            }
            _ => {
                assert_eq!(answer, Ok(vec![Offset(1)]));
                assert_eq!(held.iter().map(|(_, entry)| content(entry)).collect::<Vec<_>>(), [content(&entry(number))]);
                continue;
            }
        }
        assert_eq!(held.len(), 0, "what is refused is not stored");
    }
}

#[tokio::test]
async fn a_connection_may_be_encrypted_and_verifies_the_server() {
    let server = Server::start(&["fsync=off"]).unwrap_or_else(|why| panic!("{why}"));
    let plain = database(&server).await;
    let keys = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    server.write("server.crt", &keys.cert.pem());
    server.write("server.key", &keys.signing_key.serialize_pem());
    server.sql("postgres", "alter system set ssl = on");
    server.sql("postgres", "select pg_reload_conf()");
    super::faults::until(&server, "postgres", "show ssl", "on").await;
    let authority = std::env::temp_dir().join(format!("lockstep-authority-{}.pem", std::process::id()));
    std::fs::write(&authority, keys.cert.pem()).expect("a file");
    let by_number = Settings::new(plain.url.replace("sslmode=disable", "sslmode=require")).authority(&authority);
    let settings = Settings::new(by_number.url.replace("127.0.0.1", "localhost"));
    let log = connect(&settings.clone().authority(&authority)).await;
    log.user("ada").await.expect("a number");
    let name = settings.url.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("a name");
    let encrypted = "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'postgres'
                     and application_name = 'lockstep'";
    assert_eq!(server.sql(name, encrypted), "t");
    let said = PostgresLog::connect(settings.clone()).await.expect_err("the system does not trust it").to_string();
    assert!(said.contains("cannot be reached"), "{said}");
    let said = PostgresLog::connect(by_number).await.expect_err("the certificate is for another name").to_string();
    assert!(said.contains("cannot be reached") && said.contains("certificate"), "{said}");
    std::fs::remove_file(&authority).expect("a file");
    let said = PostgresLog::connect(settings.authority(&authority)).await.expect_err("no file").to_string();
    assert!(said.contains("cannot be read") && said.contains("give a file with PEM certificates"), "{said}");
}
