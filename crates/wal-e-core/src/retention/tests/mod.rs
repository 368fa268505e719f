mod archives;
mod histories;
