use quorate_sim::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let plan: Plan = a[1].parse().unwrap();
    for seed in 0..a[2].parse().unwrap() {
        let s = Scenario::new(plan, seed);
        let r = run(&s, false);
        let b = run(&Scenario { mutant: None, ..s.clone() }, false);
        let f = |r: &RunReport| r.violation.as_ref().map(|v| v.to_string().chars().take(70).collect::<String>()).unwrap_or_default();
        println!("{seed}: {} events {} || base {} events {}", r.events, f(&r), b.events, f(&b));
    }
}
