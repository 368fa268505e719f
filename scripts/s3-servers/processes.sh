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

spawn() { # NAME COMMAND...
    local name=$1
    shift
    setsid "$@" >"$state/$name.log" 2>&1 </dev/null &
    echo $! >"$state/$name.pid"
}

runs() { # NAME
    kill -0 "$(cat "$state/$1.pid")" 2>/dev/null
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
    local file pid deadline
    for file in $(ls -t "$state"/*.pid 2>/dev/null); do
        pid=$(cat "$file")
        deadline=$((SECONDS + 20))
        while kill -0 "$pid" 2>/dev/null; do
            if [ "$SECONDS" -lt "$deadline" ]; then kill -TERM "$pid"; else kill -KILL "$pid"; fi
            sleep 0.2
        done 2>/dev/null
        rm -f "$file"
    done
}
