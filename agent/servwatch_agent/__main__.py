from servwatch_agent.command import main

if __name__ == "__main__":
    main()
