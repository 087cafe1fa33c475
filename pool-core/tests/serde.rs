//! The configuration comes from files.
#![cfg(feature = "serde")]

use std::time::Duration;

use poolyard_core::{Adaptive, PoolConfig, ReuseOrder, UNLIMITED};

#[test]
fn a_configuration_comes_from_toml_and_keeps_its_defaults() {
    let text = r#"
        name = "sandboxes"
        max_total = 8
        max_waiters = "unlimited"
        max_per_key = "auto"
        max_idle = 4
        order = "fifo"
        create_timeout = "1m 30s"
        idle_timeout = "never"
        check_every_recycles = "never"
        lifetime_jitter = 0.2
    "#;
    let config: PoolConfig = toml::from_str(text).unwrap();
    let expected = PoolConfig {
        name: "sandboxes".into(),
        max_total: 8,
        max_waiters: UNLIMITED,
        max_idle: Some(4),
        order: ReuseOrder::Fifo,
        create_timeout: Duration::from_secs(90),
        idle_timeout: None,
        check_every_recycles: None,
        lifetime_jitter: 0.2,
        ..PoolConfig::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn a_configuration_comes_from_yaml() {
    let config: PoolConfig = serde_yaml_ng::from_str("max_total: unlimited\nmax_lifetime: 2h\n").unwrap();
    assert_eq!(config.max_total, UNLIMITED);
    assert_eq!(config.max_lifetime, Some(Duration::from_secs(7200)));
}

#[test]
fn an_unknown_field_is_an_error_that_names_it() {
    let error = toml::from_str::<PoolConfig>("max_totl = 8").unwrap_err().to_string();
    assert!(error.contains("max_totl"), "{error}");
}

#[test]
fn an_unknown_word_is_an_error_that_names_what_is_known() {
    let error = toml::from_str::<PoolConfig>("max_total = \"lots\"").unwrap_err().to_string();
    assert!(error.contains("lots") && error.contains("unlimited"), "{error}");
    let error = toml::from_str::<PoolConfig>("max_total = -1").unwrap_err().to_string();
    assert!(error.contains("-1"), "{error}");
}

#[test]
fn adaptive_sizing_is_a_table_of_its_own() {
    let config: PoolConfig = toml::from_str("[adaptive]\nshare = 0.9\nlinger = \"1m\"").unwrap();
    let adaptive = Adaptive { share: 0.9, linger: Duration::from_secs(60), ..Adaptive::default() };
    assert_eq!(config.adaptive, Some(adaptive));
}

#[test]
fn what_is_written_is_read_back() {
    let adaptive = Some(Adaptive::default());
    let config = PoolConfig { max_total: UNLIMITED, wait_timeout: None, adaptive, ..PoolConfig::default() };
    let yaml = serde_yaml_ng::to_string(&config).unwrap();
    assert_eq!(serde_yaml_ng::from_str::<PoolConfig>(&yaml).unwrap(), config);
    let toml = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<PoolConfig>(&toml).unwrap(), config);
}

#[test]
fn the_settings_of_the_sizing_guide_are_configurations_that_work() {
    let guide = include_str!("../../docs/guide/sizing.md");
    let settings: Vec<&str> =
        guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(settings.len(), 4);
    for text in settings {
        let config: PoolConfig = toml::from_str(text).unwrap();
        assert_eq!(config.validate(), Ok(()), "{text}");
    }
}
