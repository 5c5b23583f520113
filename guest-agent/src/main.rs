fn main() {
    if hrun_agent::reaper::is_asked_for() {
        hrun_agent::reaper::main()
    }
    hrun_agent::agent::main()
}
