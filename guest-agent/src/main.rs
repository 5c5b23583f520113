fn main() {
    hrun_agent::agent::main()
}
