//! `vary`: what each setting of Brightwire's costs or brings. The profiles quote what it prints.
//!
//! Each variation is Brightwire with one setting more, measured in turns with Brightwire without it. What is told are
//! ratios to that, repetition by repetition, since the machine's mood is the same for both.

use std::error::Error;

use toml::Table as Settings;

use crate::contender::Contender;
use crate::measure::Figures;
use crate::run::Options;
use crate::server::Kind;
use crate::table::Table;

/// One setting, beside its default.
#[derive(Clone, Copy, Debug)]
pub struct Variation {
    /// The key, as it is chosen on the command line; several settings of one key have the same.
    pub key: &'static str,
    /// The setting, as it stands in a configuration file.
    pub setting: &'static str,
}

/// All settings that a profile chooses and that this can show something of.
pub const VARIATIONS: [Variation; 14] = [
    Variation {
        key: "runtime.io",
        setting: "[runtime]\nio = \"epoll\"",
    },
    Variation {
        key: "runtime.threading",
        setting: "[runtime]\nthreading = \"dedicated\"\nshards = 1",
    },
    Variation {
        key: "runtime.spin",
        setting: "[runtime]\nspin = \"50us\"",
    },
    Variation {
        key: "runtime.spin",
        setting: "[runtime]\nspin = \"10ms\"",
    },
    Variation {
        key: "socket.notsent_lowat",
        setting: "[socket]\nnotsent_lowat = \"4KiB\"",
    },
    Variation {
        key: "socket.notsent_lowat",
        setting: "[socket]\nnotsent_lowat = \"128KiB\"",
    },
    Variation {
        key: "socket.send_buffer",
        setting: "[socket]\nsend_buffer = \"16KiB\"",
    },
    Variation {
        key: "rings.data_ring",
        setting: "[rings]\ndata_ring = \"256KiB\"",
    },
    Variation {
        key: "rings.data_ring",
        setting: "[rings]\ndata_ring = \"8MiB\"",
    },
    Variation {
        key: "sessions.max_delay",
        setting: "[sessions]\nmax_delay = \"5ms\"",
    },
    Variation {
        key: "sessions.max_delay",
        setting: "[sessions]\nmax_delay = \"30ms\"",
    },
    Variation {
        key: "sessions.recovery_memory",
        setting: "[sessions]\nrecovery_memory = \"1600B\"",
    },
    Variation {
        key: "sessions.recovery_memory",
        setting: "[sessions]\nrecovery_memory = \"256KiB\"",
    },
    Variation {
        key: "sessions.connections_max",
        setting: "[sessions]\nconnections_max = 200000\nsessions_max = 250000",
    },
];

/// What `vary` can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Vary {
    /// Keys to vary; all if not given
    #[arg(long, value_delimiter = ',')]
    keys: Vec<String>,
    /// Settings of your own in place of them: lines of a configuration file, such as '[runtime]\nspin = "1ms"', or
    /// the path of a file
    #[arg(long, value_name = "SETTINGS")]
    with: Vec<String>,
    /// Back end of all that do not choose one
    #[arg(long, default_value = "uring")]
    io: Kind,
    #[command(flatten)]
    options: Options,
}

impl Vary {
    /// Measures, and prints the effects.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        if !self.io.is_brightwire() {
            return Err("only Brightwire has these settings: --io uring or epoll".into());
        }
        let mut contenders = vec![Contender::new(self.io)];
        for setting in self.settings()? {
            contenders.push(self.contender(&setting)?);
        }
        let names: Vec<String> = contenders.iter().map(|one| one.name.clone()).collect();
        let table = self.options.run(contenders)?;
        print!("{}", table.origin());
        println!(
            "Ratios to {} without the setting, in the same repetition: median (least-most). Below 1 is less.",
            names[0]
        );
        for scenario in &crate::scenario::QUICK {
            print_scenario(&table, scenario.name, &names);
        }
        print!("{}", table.omissions());
        table.expect_figures()
    }

    fn settings(&self) -> Result<Vec<String>, Box<dyn Error>> {
        if !self.with.is_empty() {
            return Ok(self.with.clone());
        }
        for key in &self.keys {
            if !VARIATIONS.iter().any(|variation| variation.key == key) {
                let mut keys: Vec<_> = VARIATIONS.iter().map(|variation| variation.key).collect();
                keys.dedup();
                return Err(format!("{key} is not varied: {}", keys.join(", ")).into());
            }
        }
        let wanted = |variation: &&Variation| {
            self.keys.is_empty() || self.keys.iter().any(|key| key == variation.key)
        };
        let variations = VARIATIONS.iter().filter(wanted);
        Ok(variations
            .map(|variation| variation.setting.to_owned())
            .collect())
    }

    fn contender(&self, setting: &str) -> Result<Contender, Box<dyn Error>> {
        let (name, text) = match std::fs::read_to_string(setting) {
            Ok(text) => (setting.to_owned(), text),
            // A command line has no line ends.
            Err(_) => {
                let text = setting.replace("\\n", "\n");
                (name_of(&text), text)
            }
        };
        let settings: Settings = text.parse()?;
        let io = settings
            .get("runtime")
            .and_then(|runtime| runtime.get("io")?.as_str());
        let kind = match io {
            Some("epoll") => Kind::Epoll,
            Some("uring") => Kind::Uring,
            _ => self.io,
        };
        Ok(Contender {
            name,
            kind,
            program: None,
            settings,
        })
    }
}

/// A setting in one line.
fn name_of(text: &str) -> String {
    let mut table = "";
    let mut names = Vec::new();
    for line in text.lines().map(str::trim) {
        match line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(name) => table = name,
            None if line.is_empty() => {}
            None => names.push(format!("{table}.{line}").replace(" = ", "=")),
        }
    }
    names.join(", ")
}

fn print_scenario(table: &Table, scenario: &str, names: &[String]) {
    let base = &names[0];
    let is_there = |name: &String| {
        let ratio = table.ratio_of(scenario, name, base, |figures| figures.cpu_ns);
        ratio.is_some()
    };
    if !names[1..].iter().any(is_there) {
        return;
    }
    println!("\n{scenario}");
    println!(
        "  {:<48}{:>20}{:>20}{:>20}{:>20}{:>16}",
        "", "CPU per delivery", "p50", "p99", "deliveries/s", "memory"
    );
    for name in &names[1..] {
        let ratio =
            |figure: &dyn Fn(&Figures) -> f64| match table.ratio_of(scenario, name, base, figure) {
                Some(spread) => format!(
                    "{:.2} ({:.2}-{:.2})",
                    spread.median, spread.least, spread.most
                ),
                None => "-".into(),
            };
        println!(
            "  {name:<48}{:>20}{:>20}{:>20}{:>20}{:>16}",
            ratio(&|figures| figures.cpu_ns),
            ratio(&|figures| figures.latency_ms[0]),
            ratio(&|figures| figures.latency_ms[1]),
            ratio(&|figures| figures.deliveries_per_s),
            ratio(&|figures| figures.memory_mib),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brightwire::config::Plan;
    use brightwire::runtime::topology::Topology;
    use std::path::Path;

    #[test]
    fn settings_have_names_of_one_line() {
        assert_eq!(
            name_of("[runtime]\nspin = \"1ms\"\nshards = 1\n[rings]\ndata_ring = \"8MiB\""),
            "runtime.spin=\"1ms\", runtime.shards=1, rings.data_ring=\"8MiB\""
        );
    }

    /// The server understands every variation, and each really sets its key.
    #[test]
    fn variations_are_valid_configurations() {
        let machine = Topology::read().unwrap();
        for variation in VARIATIONS {
            let contender = Contender {
                settings: variation.setting.parse().unwrap(),
                ..Contender::new(Kind::Epoll)
            };
            let text = contender.configuration("epoll", 1, 2);
            if let Err(error) = Plan::from_text(&text, &machine, Path::new("/"), "test.toml") {
                panic!("{}: {error}\n{text}", variation.setting);
            }
            let (table, key) = variation.key.split_once('.').unwrap();
            assert!(contender.settings[table].get(key).is_some());
        }
    }
}
