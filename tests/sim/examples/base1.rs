use quorate_sim::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let s = Scenario::new(a[1].parse().unwrap(), a[2].parse().unwrap());
    let r = run(&Scenario { mutant: None, ..s }, true);
    println!("{:?}", r.violation);
}
