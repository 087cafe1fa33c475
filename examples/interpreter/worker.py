# Answers one line for each line: `eval EXPRESSION` and `reset TOKEN`.
import builtins, json, math, os, sys, threading

# The protocol moves to descriptors of its own: what an expression prints or reads cannot disturb it.
requests = os.fdopen(os.dup(0), "r")
replies = os.fdopen(os.dup(1), "w", buffering=1)
nowhere = os.open(os.devnull, os.O_RDWR)
os.dup2(nowhere, 0)
os.dup2(nowhere, 1)


def surroundings():
    """What an expression may have changed outside its own names."""
    return {
        "the environment": dict(os.environ),
        "the working directory": os.getcwd(),
        "the loaded modules": set(sys.modules),
        "the built-in names": dict(vars(builtins)),
        "the threads": threading.active_count(),
    }


def fresh_names():
    return {"json": json, "math": math}


def answer(expression):
    try:
        return "ok " + repr(eval(expression, names))
    except Exception as error:
        return "error " + repr(error)


def cleaned(token):
    now = surroundings()
    changed = [what for what in pristine if now[what] != pristine[what]]
    return "dirty " + ", ".join(changed) if changed else "clean " + token


pristine = surroundings()
names = fresh_names()
for line in requests:
    command, _, text = line.rstrip("\n").partition(" ")
    if command == "reset":
        names = fresh_names()
        reply = cleaned(text)
    else:
        reply = answer(text)
    replies.write(reply.replace("\n", " ") + "\n")
