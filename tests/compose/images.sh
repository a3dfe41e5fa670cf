# shellcheck shell=bash
# Sourced by test.sh: the images that docker-compose.yml takes from elsewhere.
#
# Where the registry can be reached they are pulled. Where not, images of the same names are built here:
# a Debian base by debootstrap, the servers from Debian's packages, Kafka from its published jars. Such an
# image has the label daybook.stands-for.

images_cache=${DAYBOOK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/daybook}
images_log=build/compose/images.log
debian=debian:12-slim
substitutes=()

# NAME: as docker-compose.yml pins it
image_of() { sed -nE "s#^ *image:( &[a-z_]+)? ((apache/|prom/|grafana/)?$1:[^ ]*)\$#\2#p" docker-compose.yml; }
stands_for() { docker image inspect -f '{{index .Config.Labels "daybook.stands-for"}}' "$1" 2>/dev/null; }
official() { docker image inspect "$1" >/dev/null 2>&1 && [ -z "$(stands_for "$1")" ]; }

# Debian as its slim image has it: the required packages, security updates, no documents.
make_base() {
    local tar=$images_cache/debian-12-slim.tar work
    if [ ! -f "$tar" ]; then
        scripts/packages.sh ensure debootstrap || return 1
        work=$(mktemp -d "$images_cache/.base.XXXXXX") || return 1
        if ! debootstrap --variant=minbase bookworm "$work/root" \
            http://deb.debian.org/debian >>"$images_log" 2>&1; then
            rm -rf "$work"
            return 1
        fi
        cat >"$work/root/etc/apt/sources.list" <<'EOF'
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
EOF
        (cd "$work/root" && rm -rf var/cache/apt/* var/lib/apt/lists/* usr/share/doc/* \
            usr/share/man/* usr/share/locale/* var/log/* && mkdir -p var/cache/apt/archives/partial &&
            tar c . >"$work/base.tar") && mv "$work/base.tar" "$tar"
        rm -rf "$work"
    fi
    docker import -c 'LABEL daybook.stands-for=debian' -c 'CMD ["bash"]' "$tar" "$debian" >>"$images_log"
}
kafka_jars() { # into the build's folder: the broker's, and the one with its command-line tools
    local libs version
    scripts/packages.sh ensure kafka-jars || return 1
    libs=$(scripts/kafka.sh) || return 1
    version=$(sed -n 's/.*<kafka.version>\(.*\)<\/kafka.version>.*/\1/p' infra/kafka/pom.xml)
    mkdir -p "$1/libs"
    # shellcheck disable=SC2086 # a pattern
    cp $libs "$1/libs" || return 1
    if ! ls "$1"/libs/kafka-tools-[0-9]*.jar >/dev/null 2>&1; then
        mvn -q -B dependency:copy "-Dartifact=org.apache.kafka:kafka-tools:$version" \
            "-DoutputDirectory=$PWD/$1/libs" >>"$images_log" 2>&1
    fi
}
substitute() { # NAME
    local image work=build/compose/image-$1
    image=$(image_of "$1")
    rm -rf "$work"
    cp -r "tests/compose/images/$1" "$work"
    if [ "$1" = kafka ]; then kafka_jars "$work" || return 1; fi
    docker build --label "daybook.stands-for=$image" -t "$image" "$work" >>"$images_log" 2>&1 || return 1
    substitutes+=("$image")
}

images_provide() { # NAME…: those of docker-compose.yml; and Grafana, which has no stand-in, where it can be had
    local name image
    : >"$images_log"
    if official "$debian" || timeout 120 docker pull -q "$debian" >>"$images_log" 2>&1; then
        echo 'images: the registry can be reached, the official ones are used'
        for name in "$@" grafana; do
            image=$(image_of "$name")
            if ! official "$image" && ! docker pull -q "$image" >>"$images_log" 2>&1; then
                echo "images: $image can't be pulled — see $images_log" >&2
                return 1
            fi
        done
        return 0
    fi
    echo "images: the registry can't be reached; these stand for the official ones:"
    [ -n "$(stands_for "$debian")" ] || make_base || return 1
    substitutes+=("$debian")
    for name in "$@"; do
        substitute "$name" || { echo "images: $name can't be made — see $images_log" >&2; return 1; }
    done
    for image in "${substitutes[@]}"; do
        printf '  %-32s %s\n' "$image" "$(docker image inspect -f '{{.Size}}' "$image" |
            awk '{ printf "%.0f MB", $1 / 1e6 }')"
    done
}
images_remove() { # an engine that is not ours doesn't keep what only looks like the official images
    [ -n "$engine_pid" ] || [ ${#substitutes[@]} = 0 ] || docker rmi -f "${substitutes[@]}" >/dev/null 2>&1
}
