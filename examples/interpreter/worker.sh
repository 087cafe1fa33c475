# Answers one line for each line: `eval EXPRESSION` (integer arithmetic) and `reset TOKEN`.
while read -r command text; do
    case $command in
    reset)
        echo "clean $text" ;;
    *)
        # In a shell of its own: an error of arithmetic ends the shell it happens in, and what an
        # expression sets goes with that shell.
        if value=$({ echo "$(($text))"; } 2>/dev/null); then
            echo "ok $value"
        else
            echo "error not an integer expression: $text"
        fi ;;
    esac
done
