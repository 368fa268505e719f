# For the scripts of the servers, to be sourced: processes that are started in the background,
# and have to be ended again. Each has NAME.pid and NAME.log in $state.

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        if ! { : <>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

# A process is known by its number and the moment of its start: numbers are used again.
moment_of_start() { # PID
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

spawn() { # NAME COMMAND...
    local name=$1
    shift
    setsid "$@" >"$state/$name.log" 2>&1 </dev/null &
    echo "$! $(moment_of_start $!)" >"$state/$name.pid"
}

runs() { # NAME
    local pid start
    read -r pid start <"$state/$1.pid"
    [ "$(moment_of_start "$pid")" = "$start" ]
}

wait_until() { # NAME SECONDS COMMAND...: repeats the command until it succeeds
    local name=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >"$state/attempt.log" 2>&1; do
        if ! runs "$name" || [ "$SECONDS" -ge "$deadline" ]; then
            echo "$name has ended, or does not do what is waited for: $*" >&2
            tail -n 20 "$state/attempt.log" "$state/$name.log" >&2
            return 1
        fi
        sleep 0.2
    done
}

answers_http() { # PORT
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
    read -r -t 5 line <&3 && [[ $line == HTTP/* ]]
}

# The last one that was started is ended first.
stop_all() {
    local name pid deadline
    [ -d "$state" ] || return 0
    for name in $(ls -t "$state" | sed -n 's/\.pid$//p'); do
        read -r pid _ <"$state/$name.pid"
        deadline=$((SECONDS + 20))
        while runs "$name"; do
            if [ "$SECONDS" -lt "$deadline" ]; then kill -TERM "$pid"; else kill -KILL "$pid"; fi
            sleep 0.2
        done
        rm -f "$state/$name.pid"
    done
}
