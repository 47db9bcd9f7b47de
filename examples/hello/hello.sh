greeting="hello, $1"
printf '%s\n' "$greeting" | tee greeting.txt
