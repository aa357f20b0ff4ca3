//! A base path, whether or not a proxy strips it.

use lockstep_gateway::config::Config;

use super::Listener;

#[tokio::test]
async fn below_a_base_path_the_routes_are_where_browsers_look_for_them() {
    let listener = Listener::open("base_path = \"/chat/\"").await;
    for (asked, routed) in [
        ("/chat/", "/"),
        ("/chat/ws?ticket=a%20b", "/ws?ticket=a%20b"),
        ("/chat/auth/login", "/auth/login"),
        ("/chat//x", "//x"),
        // A proxy has stripped it.
        ("/", "/"),
        ("/auth/login", "/auth/login"),
        // Another path.
        ("/chatter", "/chatter"),
    ] {
        assert_eq!(listener.known(asked, "").await.words()[0], routed, "{asked}");
    }
    for (asked, to) in [("/chat", "/chat/"), ("/chat?a=b", "/chat/?a=b")] {
        let answer = listener.known(asked, "").await;
        assert_eq!(answer.status(), 308);
        assert!(answer.head.contains(&format!("location: {to}\r\n")), "{}", answer.head);
    }
    let root = Listener::open("").await;
    assert_eq!(root.known("/chat/ws", "").await.words()[0], "/chat/ws");
}

#[test]
fn a_base_path_that_is_none_is_refused() {
    for path in ["", "chat", "/chat", "chat/", "//", "/a//b/", "/a/../b/", "/./", "/a b/", "/a?b/", "/%41/"] {
        let error = Config::parse(&format!("base_path = {path:?}")).expect_err(path).to_string();
        assert!(error.contains("is not a base path") && error.contains("base_path"), "{error}");
    }
    for path in ["/", "/chat/", "/a/b-c_d.e~f/"] {
        Config::parse(&format!("base_path = {path:?}")).expect(path);
    }
}
