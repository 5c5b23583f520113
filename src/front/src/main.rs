fn main() -> ! {
    hrun_front::main()
}
